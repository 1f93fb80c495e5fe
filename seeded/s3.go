//go:build seeded_s3

package seeded

const number = 3

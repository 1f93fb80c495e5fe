//go:build seeded_s13

package seeded

const number = 13

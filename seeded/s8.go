//go:build seeded_s8

package seeded

const number = 8

//go:build seeded_s9

package seeded

const number = 9

//go:build seeded_s4

package seeded

const number = 4

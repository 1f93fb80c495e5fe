//go:build seeded_s6

package seeded

const number = 6

//go:build seeded_s2

package seeded

const number = 2

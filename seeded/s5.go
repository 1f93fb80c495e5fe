//go:build seeded_s5

package seeded

const number = 5

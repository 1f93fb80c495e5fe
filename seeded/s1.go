//go:build seeded_s1

package seeded

const number = 1

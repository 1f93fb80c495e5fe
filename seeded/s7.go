//go:build seeded_s7

package seeded

const number = 7

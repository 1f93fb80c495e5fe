//go:build seeded_s11

package seeded

const number = 11

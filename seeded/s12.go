//go:build seeded_s12

package seeded

const number = 12

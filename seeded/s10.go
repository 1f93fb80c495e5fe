//go:build seeded_s10

package seeded

const number = 10

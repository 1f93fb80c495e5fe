//go:build !(seeded_s1 || seeded_s2 || seeded_s3 || seeded_s4 || seeded_s5 || seeded_s6 || seeded_s7 || seeded_s8 || seeded_s9 || seeded_s10 || seeded_s11 || seeded_s12 || seeded_s13)

package seeded

const number = 0

// Package nearest finds the word that was meant by one that is nearly right.
package nearest

// Of returns the word that differs least from a wrong one, the first of equals,
// or "" if all differ in more than most letters.
func Of(wrong string, words []string, most int) string {
	best, least := "", most+1
	for _, word := range words {
		if d := distance(wrong, word); d < least {
			best, least = word, d
		}
	}
	return best
}

// distance is Levenshtein's, on bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

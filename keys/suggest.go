package keys

import "fmt"

// didYouMean returns a hint at the known word nearest to word, "" if none is
// near.
func didYouMean(word string, known []string) string {
	best, hint := 3, ""
	for _, k := range known {
		if d := distance(word, k); d < best && d < len(k) {
			best, hint = d, fmt.Sprintf(": did you mean %q?", k)
		}
	}
	return hint
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

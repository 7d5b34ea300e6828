package gtid

// Intersect returns the transactions that are in both sets. On MariaDB the
// result names the server of s.
func (s Set) Intersect(t Set) Set {
	var out Set
	for _, p := range s.parts {
		for _, a := range p.spans {
			for _, b := range t.spansOf(p.key) {
				if first, last := max(a.first, b.first), min(a.last, b.last); first <= last {
					out.add(p.key, p.server, span{first, last})
				}
			}
		}
	}
	return out
}

package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Reader is a server that cache fills read from, as /readers shows it.
type Reader struct {
	Name       string `json:"name"`
	ServerUUID string `json:"server_uuid,omitempty"` // as it answered last
	Up         bool   `json:"up"`
	// LagSeconds is for how long it has lacked a transaction that the source shows.
	LagSeconds float64 `json:"lag_seconds"`
	// BehindTransactions is how many it lacks.
	BehindTransactions int64 `json:"behind_transactions"`
	Late               bool  `json:"late"` // later than max_wait
	// OutPartitions are those of this process whose second pass goes on without it.
	OutPartitions []string `json:"out_partitions"`
	// MayServe says whether cache fills may read it now. Reason says why not.
	MayServe bool   `json:"may_serve"`
	Reason   string `json:"reason,omitempty"`
	Error    string `json:"error,omitempty"` // why it did not answer
}

// readers lists all, or says of one whether it may serve fills, for the health
// check of a proxy. Where that cannot be said the answer is no.
func (p *Pages) readers(w http.ResponseWriter, r *http.Request) {
	var all []Reader
	ok := false
	if p.Readers != nil {
		all, ok = p.Readers(r.Context())
	}
	if !ok {
		problem(w, http.StatusNotFound, "this process watches no readers: an invalidator does, once it runs, where second_delete.readers names some")
		return
	}
	if !r.URL.Query().Has("name") {
		answer(w, http.StatusOK, struct {
			Readers []Reader `json:"readers"`
		}{all})
		return
	}
	name := r.URL.Query().Get("name")
	i := slices.IndexFunc(all, func(one Reader) bool { return strings.EqualFold(one.Name, name) })
	switch {
	case i < 0:
		problem(w, http.StatusNotFound, fmt.Sprintf("%q is not one of second_delete.readers", name))
	case all[i].MayServe:
		answer(w, http.StatusOK, all[i])
	default:
		answer(w, http.StatusServiceUnavailable, all[i])
	}
}

package integration

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random choices; 0 chooses one")

func TestMain(m *testing.M) {
	flag.Parse()
	envtest.Main(m)
}

// long is true where there is time for more of everything.
var long = os.Getenv("DOUBLETAP_LONG") != ""

// pick returns the number for the short lane or for the long one.
func pick(short, longer int) int {
	if long {
		return longer
	}
	return short
}

// newSeed returns the seed of this test and prints it.
func newSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (repeat with -seed=%d)", seed, seed)
	return seed
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// command returns the path of a built command; the first call builds all of them.
func command(t *testing.T, name string) string {
	t.Helper()
	var flags []string
	if raceBuild {
		flags = []string{"-race"}
	}
	dir, err := commands.BuildOnce(flags...)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func newRands(seed uint64, n int) (all []*rand.Rand) {
	for i := range n {
		all = append(all, newRand(seed, uint64(i)+1000))
	}
	return all
}

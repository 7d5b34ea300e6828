package integration

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

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

// builtCommands are the commands, built once. They lie beside the test binary, in the folder that go test removes.
var builtCommands = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := noteSources(); err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(self), "commands-"+strconv.Itoa(os.Getpid()))
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if raceBuild {
		args = append(args, "-race")
	}
	args = append(args, "../cmd/binlog-tailer", "../cmd/invalidator", "../cmd/replay")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("go %v: %w", args, err), errors.New(string(out)))
	}
	return dir, nil
})

// command returns the path of a built command.
func command(t *testing.T, name string) string {
	t.Helper()
	dir, err := builtCommands()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// noteSources looks at every Go file of the module, so that go test does not take an earlier result for this one when
// only the commands, which this test binary does not contain, have changed.
func noteSources() error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
}

func newRands(seed uint64, n int) (all []*rand.Rand) {
	for i := range n {
		all = append(all, newRand(seed, uint64(i)+1000))
	}
	return all
}

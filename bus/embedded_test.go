package bus

import (
	"log/slog"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// openTest opens an embedded log and closes it at the test's end.
func openTest(t *testing.T, c EmbeddedConfig) *Embedded {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Logger == nil {
		c.Logger = testLogger(t)
	}
	e, err := OpenEmbedded(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func suiteLog(e *Embedded) pipelinetest.LogUnderTest {
	return pipelinetest.LogUnderTest{
		Publisher: e.Publisher(), Consumer: func() pipeline.Consumer { return e.Consumer("invalidator") },
		Positions: e.Positions("shop"), DeadLetters: e.DeadLetters(), Members: 1,
	}
}

func TestEmbeddedPassesTheSuite(t *testing.T) {
	pipelinetest.RunLog(t, func(t *testing.T) pipelinetest.LogUnderTest {
		return suiteLog(openTest(t, EmbeddedConfig{}))
	})
}

// TestEmbeddedPassesTheSuiteFromDisk has no memory to speak of and many
// segments, so that nearly all reads come from disk.
func TestEmbeddedPassesTheSuiteFromDisk(t *testing.T) {
	pipelinetest.RunLog(t, func(t *testing.T) pipelinetest.LogUnderTest {
		e := openTest(t, EmbeddedConfig{MemoryTail: 1})
		e.disk.bytes = 150
		l := suiteLog(e)
		l.Drop = func(below int64) {
			if err := e.disk.dropBelow(below, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		return l
	})
}

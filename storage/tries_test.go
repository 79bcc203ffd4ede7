package storage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTries: an operation is tried as often as it may be, and no more.
func TestTries(t *testing.T) {
	for _, most := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			s := retrying(&script{stat: func(context.Context) (Info, error) {
				tries++
				return Info{}, unavailable()
			}}, time.Minute)
			s.tries = most
			began := time.Now()
			_, err := s.Stat(t.Context(), "key")
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "tried ") || tries != most {
				t.Errorf("tried %d times: %v", tries, err)
			}
			if most == 1 && time.Since(began) != 0 {
				t.Errorf("it took %s", time.Since(began))
			}
		})
	}
}

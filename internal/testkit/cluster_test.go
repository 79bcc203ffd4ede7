package testkit

import (
	"testing"
)

func TestCluster(t *testing.T) {
	c := NewCluster(t, ClusterOptions{Conf: map[string]string{"work_mem": "5MB"}})
	c.Start(t)
	if got := c.QueryValue(t, "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem is %s", got)
	}
	c.Exec(t, "CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 100)")
	c.Kill(t)
	c.Start(t)
	if got := c.QueryValue(t, "SELECT count(*) FROM t"); got != "100" {
		t.Errorf("%s rows after a crash, want 100", got)
	}
	c.Stop(t, Fast)
	again := Attach(t, c.DataDir, ClusterOptions{Conf: map[string]string{"work_mem": "7MB"}})
	again.Start(t)
	if got := again.QueryValue(t, "SHOW work_mem"); got != "7MB" {
		t.Errorf("work_mem is %s", got)
	}
}

package server_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"walden/internal/testkit"
	"walden/postgres/server"
	"walden/postgres/wal"
)

// noLeaks looks for goroutines once all other cleanup is done. It goes first in a
// test.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func TestReplicationConnect(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	c := testkit.NewCluster(t, testkit.ClusterOptions{Conf: map[string]string{"max_wal_senders": "8"}})
	hba := "local all,replication all trust\nhost all all 127.0.0.1/32 trust\n"
	if err := os.WriteFile(filepath.Join(c.DataDir, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start(t)
	c.Exec(t, "CREATE ROLE operator LOGIN", "CREATE ROLE archivist LOGIN REPLICATION", "CREATE DATABASE archivist")
	tcp := "host=127.0.0.1 port=" + strconv.Itoa(c.Port)
	for name, tt := range map[string]struct {
		dsn  string
		kind error
		want []string
	}{
		"no attribute":   {c.DSN() + " user=operator", server.ErrDenied, []string{"user operator (DSN)", "attribute REPLICATION"}},
		"no line in hba": {tcp + " user=archivist", server.ErrDenied, []string{"127.0.0.1", "28000", "line for database replication"}},
		"session attrs":  {c.DSN() + " target_session_attrs=primary", server.ErrConfig, []string{"target_session_attrs"}},
		"server down":    {"host=127.0.0.1 port=" + strconv.Itoa(testkit.FreePort(t)), server.ErrUnavailable, []string{"refused", "start the server"}},
		"bad DSN":        {"host", server.ErrConfig, []string{"parse the DSN"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := server.ConnectReplication(bounded(t), server.Config{DSN: tt.dsn})
			wantError(t, err, tt.kind, tt.want...)
		})
	}
	r := replicate(t, server.Config{DSN: c.DSN() + " user=archivist"})
	if err := r.CreateSlot(bounded(t), "lowly"); err != nil { // the attribute suffices
		t.Error(err)
	}
	t.Run("full", func(t *testing.T) {
		for range 8 {
			more, err := server.ConnectReplication(bounded(t), server.Config{DSN: c.DSN() + " user=archivist"})
			if err != nil {
				wantError(t, err, server.ErrUnavailable, "53300", "raise max_wal_senders")
				return
			}
			t.Cleanup(func() {
				if err := more.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		t.Error("nine sessions were let in")
	})
	ctx, cancel := context.WithCancel(bounded(t))
	cancel()
	_, err := server.ConnectReplication(ctx, server.Config{DSN: c.DSN()})
	wantError(t, err, context.Canceled)
	_, err = r.StartPhysical(ctx, "", 1, 1)
	wantError(t, err, context.Canceled, "timeline 1")
}

// A receiver that is always about to give up gets every byte nevertheless, also
// where a deadline hits in the middle of a message or of a TLS record.
func TestStreamDeadlines(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{
		"ssl": "on", "wal_keep_size": "1GB", "autovacuum": "off",
	}})
	certify(t, c.DataDir)
	c.Start(t)
	c.Exec(t, createBusy)
	for name, dsn := range map[string]string{
		"plain": c.DSN(),
		"TLS":   "host=127.0.0.1 sslmode=require user=postgres port=" + strconv.Itoa(c.Port),
	} {
		t.Run(name, func(t *testing.T) {
			r := replicate(t, server.Config{DSN: dsn})
			sys := system(t, r)
			v := receive(t, r, "", sys.Flushed, sys.Timeline)
			v.patience = 50 * time.Microsecond
			stop := busy(t, c)
			v.until(t, sys.Flushed+4*wal.LSN(smallSegments))
			stop()
			v.until(t, flushed(t, c))
			v.compare(t, c, smallSegments)
			if v.waits < 10 {
				t.Errorf("only %d deadlines passed", v.waits)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := v.stream.Next(ctx)
			wantError(t, err, context.Canceled, "timeline 1", "waiting for the server")
			if errors.Is(err, server.ErrUnavailable) {
				t.Errorf("the server is there: %v", err)
			}
			if tls := c.QueryValue(t, "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) WHERE ssl"); (tls == "1") != (name == "TLS") {
				t.Errorf("%s sessions with TLS", tls)
			}
		})
	}
}

// certify gives a server a certificate, signed by itself.
func certify(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"server.crt": {Type: "CERTIFICATE", Bytes: cert}, "server.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		testkit.GiveToServer(t, file)
	}
}

// The server drops a receiver that doesn't answer, and keeps one that does.
func TestStreamKeepalive(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	impatient := server.Config{PGData: c.DataDir, DSN: "options='-c wal_sender_timeout=2s'"}

	t.Run("we ask", func(t *testing.T) {
		r := replicate(t, server.Config{PGData: c.DataDir})
		v := receive(t, r, "", system(t, r).Flushed, 1)
		v.report(t, server.Status{Written: v.end(), ReplyRequested: true})
		for {
			m, err := v.next(t)
			if err != nil {
				t.Fatal(err)
			}
			if k, ok := m.(server.Keepalive); ok {
				if age := time.Since(k.Sent); age < -time.Second || age > limit || k.ServerEnd < v.start {
					t.Errorf("the answer is %+v", k)
				}
				return
			}
		}
	})
	t.Run("answered", func(t *testing.T) {
		r := replicate(t, impatient)
		v := receive(t, r, "", system(t, r).Flushed, 1)
		for asked := 0; asked < 4; { // one each second
			m, err := v.next(t)
			if err != nil {
				t.Fatal(err)
			}
			if k, ok := m.(server.Keepalive); ok && k.ReplyRequested {
				asked++
			}
		}
	})
	t.Run("unanswered", func(t *testing.T) {
		r := replicate(t, impatient)
		stream, err := r.StartPhysical(bounded(t), "", system(t, r).Flushed, 1)
		if err != nil {
			t.Fatal(err)
		}
		asked := false
		for err == nil {
			var m server.Message
			if m, err = stream.Next(bounded(t)); err == nil {
				k, ok := m.(server.Keepalive)
				asked = asked || ok && k.ReplyRequested
			}
		}
		wantError(t, err, server.ErrUnavailable, "connection was lost")
		if !asked {
			t.Error("the server did not ask before it gave up")
		}
	})
}

func TestStreamKilled(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}})
	c.Exec(t, createBusy)

	t.Run("session", func(t *testing.T) {
		r := replicate(t, server.Config{PGData: c.DataDir})
		v := receive(t, r, "", system(t, r).Flushed, 1)
		c.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
		_, err := v.untilError(t)
		wantError(t, err, server.ErrUnavailable, "the server ended the session", "57P01")
	})
	t.Run("server", func(t *testing.T) {
		r := replicate(t, server.Config{PGData: c.DataDir})
		if err := r.CreateSlot(bounded(t), "survivor"); err != nil {
			t.Fatal(err)
		}
		start := system(t, r).Flushed
		v := receive(t, r, "survivor", start, 1)
		c.Exec(t, writeWAL, writeWAL, writeWAL)
		v.until(t, start+wal.LSN(smallSegments)+1)
		c.Kill(t)
		_, err := v.untilError(t)
		wantError(t, err, server.ErrUnavailable, "timeline 1", "connection was lost")
		_, again := v.untilError(t)
		wantError(t, again, server.ErrUnavailable, "connection was lost")
		if err := v.stream.SendStatus(bounded(t), server.Status{Flushed: v.end()}); err != nil {
			t.Errorf("a report to nobody: %v", err)
		}
		_, err = r.IdentifySystem(bounded(t))
		wantError(t, err, server.ErrUnavailable, "connection was lost")

		// The server comes back, and the stream goes on where it broke off.
		c.Start(t)
		w := receive(t, replicate(t, server.Config{PGData: c.DataDir}), "survivor", v.end(), 1)
		c.Exec(t, writeWAL)
		w.until(t, flushed(t, c))
		v.compare(t, c, smallSegments)
		w.compare(t, c, smallSegments)
	})
}

// A report may be sent while another goroutine waits in Next.
func TestStatusBesideNext(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{"autovacuum": "off"}})
	c.Exec(t, createBusy)
	r := replicate(t, server.Config{PGData: c.DataDir})
	v := receive(t, r, "", system(t, r).Flushed, 1)
	c.Exec(t, writeWAL)
	target := flushed(t, c)

	reported := make(chan error, 1)
	go func() {
		var err error
		for range 500 {
			err = cmp.Or(err, v.stream.SendStatus(t.Context(), server.Status{Flushed: v.start, ReplyRequested: true}))
		}
		reported <- err
	}()
	v.until(t, target)
	if err := <-reported; err != nil {
		t.Error(err)
	}
	v.compare(t, c, smallSegments)
}

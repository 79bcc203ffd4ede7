// Package codec turns files into what a repository stores, and back: it
// compresses (zstd), encrypts (age) and fingerprints.
//
// It knows bytes only: io.Reader and io.Writer chains without a context, a
// configuration or a logger. Everything it writes is readable without walden:
//
//	zstd -d < object                 # not encrypted
//	age -d -i key < object | zstd -d # encrypted
//
// Everything it reads may be damaged or hostile. Memory stays bounded whatever
// a stream claims about itself, and no reader reports a clean io.EOF for
// content that it has not proven to be complete.
//
// Readers tell damage from a failing source: an error of the underlying reader
// comes back wrapped as it is, never as ErrCorrupt.
package codec

import (
	"errors"

	"filippo.io/age"
)

var (
	// ErrCorrupt says that stored bytes are damaged: truncated, changed,
	// followed by others, or not what this package writes.
	ErrCorrupt = errors.New("corrupt")

	// ErrNewer says that an object is intact but in a format that this
	// version does not know.
	ErrNewer = errors.New("made by a newer walden")

	// ErrChanged says that a file's content was not the same in the second
	// pass over it as in the first.
	ErrChanged = errors.New("file changed while it was read")

	// ErrNoIdentity says that something is encrypted and no key was given.
	ErrNoIdentity = errors.New("encrypted, and no identity was given")

	// ErrWrongIdentity says that something is encrypted to other keys than
	// those given. Damage to the part of an age header that holds the keys
	// looks the same.
	ErrWrongIdentity = errors.New("encrypted to other keys than those given")

	// ErrKey says that an age recipient or identity can't be used.
	ErrKey = errors.New("unusable age key")
)

// Recipient is a public key to encrypt to; see ParseRecipients.
type Recipient = age.Recipient

// Identity is a private key to decrypt with; see ParseIdentities.
type Identity = age.Identity

package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// dirHeader names the folder of the log that an answer is about: another process
// may have taken the port.
const dirHeader = "Doubletap-Log"

// addrFile is in the folder of an embedded log: the admin address of the process
// that has it open, or had it last.
const addrFile = "admin.addr"

// TellAddr leaves the admin address of this process, which has the embedded log
// in dir open, where AddrOf finds it: the port may be another one than configured.
func TellAddr(dir, addr string) error {
	if err := os.WriteFile(filepath.Join(dir, addrFile), []byte(addr+"\n"), 0o600); err != nil {
		return fmt.Errorf("leave the admin address for replay: %w", err)
	}
	return nil
}

// AddrOf returns the address that TellAddr left in a folder, for a caller on the
// same machine; "" where there is none.
func AddrOf(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, addrFile))
	if err != nil {
		return ""
	}
	host, port, err := net.SplitHostPort(strings.TrimSpace(string(data)))
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// tokenHeader carries the token in a request.
const tokenHeader = "Doubletap-Token"

// tokenFile is in the folder of an embedded log: what a caller of the log's pages
// must know. Who can read the folder (mode 0700) may read the log anyway.
const tokenFile = "admin.token"

// MakeToken makes a new token for OpenLog and leaves it in the log's folder, for
// nobody but the folder's owner to read. The one before is void. It is for the
// process that has the log open.
func MakeToken(dir string) (token string, err error) {
	token = rand.Text()
	f, err := os.CreateTemp(dir, tokenFile) // mode 0600 from the beginning
	if err != nil {
		return "", fmt.Errorf("leave a token for replay: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, tokenFile))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("leave a token for replay: %w", err)
	}
	return token, nil
}

// refuseStranger returns why a request is not answered, "" where it knows the token.
func (l *OpenLog) refuseStranger(r *http.Request) string {
	if l.Token == "" {
		return "this process could not leave a token in " + l.Dir + ", so nobody may read its log here; see its log for why"
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(tokenHeader)), []byte(l.Token)) == 1 {
		return ""
	}
	return "the token in " + filepath.Join(l.Dir, tokenFile) + " must come as the header " + tokenHeader + "; replay sends it where it can read that file: run it as a user who can, and of the same release"
}

// refuseRemote returns why a request is not answered, "" where it comes from a
// process of this machine, as far as the connection tells: a proxy that adds no
// header, or a masqueraded connection, looks like one. A name as the host may be anybody's, resolved to
// here for a browser; and what a proxy passes on comes from elsewhere.
func refuseRemote(r *http.Request) string {
	const fix = "; run replay on the machine (or in the container) of this process"
	caller, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return fmt.Sprintf("the log is shown to callers of this machine only, and %q is no address%s", r.RemoteAddr, fix)
	}
	own := false
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		to, err := netip.ParseAddrPort(addr.String())
		own = err == nil && to.Addr().Unmap() == caller.Addr().Unmap()
	}
	if !own && !caller.Addr().Unmap().IsLoopback() {
		return fmt.Sprintf("the log is shown to callers of this machine only, not to %v%s", caller.Addr(), fix)
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(name) != "" {
			return "the log is shown to callers of this machine only, not through a proxy" + fix
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return fmt.Sprintf("the log is shown by address only: ask 127.0.0.1, not %q", host)
	}
	return ""
}

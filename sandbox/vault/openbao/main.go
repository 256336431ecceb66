// Command openbao-server is a real OpenBao core with only what the tests use: KV, database and transit secrets engines, token, AppRole, JWT,
// Kubernetes and userpass logins, the file audit device, in-memory or file storage, optional TLS. It starts sealed: whoever starts it
// initialises and unseals it over its API. It is not the bao command: leaving out the cloud integrations halves the build and the binary.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/openbao/openbao/audit"
	auditfile "github.com/openbao/openbao/builtin/audit/file"
	"github.com/openbao/openbao/builtin/credential/approle"
	jwt "github.com/openbao/openbao/builtin/credential/jwt"
	kubernetes "github.com/openbao/openbao/builtin/credential/kubernetes"
	"github.com/openbao/openbao/builtin/credential/userpass"
	"github.com/openbao/openbao/builtin/logical/database"
	"github.com/openbao/openbao/builtin/logical/kv"
	"github.com/openbao/openbao/builtin/logical/transit"
	"github.com/openbao/openbao/command/server"
	baohttp "github.com/openbao/openbao/http"
	"github.com/openbao/openbao/internalshared/configutil"
	"github.com/openbao/openbao/plugins/database/postgresql"
	"github.com/openbao/openbao/sdk/v2/helper/consts"
	"github.com/openbao/openbao/sdk/v2/helper/logging"
	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/openbao/openbao/sdk/v2/physical"
	filestorage "github.com/openbao/openbao/sdk/v2/physical/file"
	"github.com/openbao/openbao/sdk/v2/physical/inmem"
	"github.com/openbao/openbao/vault"
)

type options struct {
	listen, storage, certificate, key string
}

func (chosen options) address() string {
	if chosen.certificate == "" {
		return "http://" + chosen.listen
	}
	return "https://" + chosen.listen
}

// plugins answers the core's questions about built-in plugins; the real registry links every cloud's.
type plugins struct{}

var (
	logins  = map[string]logical.Factory{"approle": approle.Factory, "jwt": jwt.Factory, "kubernetes": kubernetes.Factory, "userpass": userpass.Factory}
	engines = map[string]logical.Factory{"kv": kv.Factory, "database": database.Factory, "transit": transit.Factory}
)

func (plugins) factories(kind consts.PluginType) map[string]any {
	found := map[string]any{}
	switch kind {
	case consts.PluginTypeCredential:
		for name, factory := range logins {
			found[name] = factory
		}
	case consts.PluginTypeSecrets:
		found["kv"], found["transit"] = logical.Factory(kv.Factory), logical.Factory(transit.Factory)
	case consts.PluginTypeDatabase:
		found["postgresql-database-plugin"] = postgresql.New
	}
	return found
}

func (p plugins) Contains(name string, kind consts.PluginType) bool {
	_, known := p.factories(kind)[name]
	return known
}

func (p plugins) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, known := p.factories(kind)[name]
	switch {
	case !known:
		return nil, false
	case kind == consts.PluginTypeDatabase:
		return postgresql.New, true
	default:
		return func() (interface{}, error) { return factory, nil }, true
	}
}

func (p plugins) Keys(kind consts.PluginType) []string {
	var names []string
	for name := range p.factories(kind) {
		names = append(names, name)
	}
	return names
}

func (p plugins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, p.Contains(name, kind)
}

func newCore(chosen options, logger hclog.Logger) (*vault.Core, error) {
	var storage physical.Backend
	var err error
	if chosen.storage != "" {
		storage, err = filestorage.NewFileBackend(map[string]string{"path": chosen.storage}, logger)
	} else {
		storage, err = inmem.NewInmem(nil, logger)
	}
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		BuiltinRegistry:    plugins{},
		CredentialBackends: logins,
		LogicalBackends:    engines,
		AuditBackends:      map[string]audit.Factory{"file": auditfile.Factory},
		RedirectAddr:       chosen.address(),
		ReloadFuncsLock:    &sync.RWMutex{},
		// Tests switch an audit device on where they need one; there is no configuration file to name it.
		RawConfig:        &server.Config{SharedConfig: &configutil.SharedConfig{}, UnsafeAllowAPIAuditCreation: true},
		DisableSSCTokens: true, // tokens then look as they do on the full server in dev mode
	})
}

func listener(chosen options) (net.Listener, error) {
	plain, err := net.Listen("tcp", chosen.listen)
	if err != nil || chosen.certificate == "" {
		return plain, err
	}
	pair, err := tls.LoadX509KeyPair(chosen.certificate, chosen.key)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}), nil
}

func run(chosen options) error {
	core, err := newCore(chosen, logging.NewVaultLogger(hclog.Info))
	if err != nil {
		return err
	}
	socket, err := listener(chosen)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           baohttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(socket) }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-signals:
		return core.Shutdown()
	}
}

func main() {
	var chosen options
	flag.StringVar(&chosen.listen, "listen", "127.0.0.1:8200", "address to serve")
	flag.StringVar(&chosen.storage, "storage", "", "directory that keeps the data; in memory when empty")
	flag.StringVar(&chosen.certificate, "tls-certificate", "", "PEM file; plain HTTP when empty")
	flag.StringVar(&chosen.key, "tls-key", "", "PEM file")
	flag.Parse()
	if err := run(chosen); err != nil {
		fmt.Fprintln(os.Stderr, "openbao-server:", err)
		os.Exit(1)
	}
}

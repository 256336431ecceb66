// Command argocd is the part of Argo CD that the tests meet: the application controller, the repository server, the API server, and a
// Redis that keeps its data in memory. Which one runs is decided by the name it is called by (a symbolic link) or by its first argument.
// Nothing in it is patched; what is left out (dex, notifications, ApplicationSets, the command line) takes no part in a sync.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	repository "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	server "github.com/argoproj/argo-cd/v3/cmd/argocd-server/commands"
	"github.com/argoproj/argo-cd/v3/util/grpc"
	"github.com/argoproj/argo-cd/v3/util/log"
)

// programs holds constructors, not commands: building a command registers flags and metrics, which must happen for one program only.
var programs = map[string]func() error{
	"argocd-application-controller": func() error { return run(controller.NewCommand) },
	"argocd-repo-server":            func() error { return run(repository.NewCommand) },
	"argocd-server":                 func() error { return run(server.NewCommand) },
	"redis":                         serveRedis,
}

// run does what Argo CD's own main function does before it executes a command.
func run(construct func() *cobra.Command) error {
	klog.SetLogger(log.NewLogrusLogger(log.NewWithCurrentConfig()))
	grpc.DisableSRVLookups()
	return construct().Execute()
}

// serveRedis serves an in-memory Redis at the address in the first argument until the process is told to end.
func serveRedis() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: redis ADDRESS:PORT")
	}
	redis := miniredis.NewMiniRedis()
	if err := redis.StartAddr(os.Args[1]); err != nil {
		return err
	}
	defer redis.Close()
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	<-told
	return nil
}

func main() {
	name := filepath.Base(os.Args[0])
	program, found := programs[name]
	if !found && len(os.Args) > 1 {
		name = os.Args[1]
		program, found = programs[name]
		os.Args = os.Args[1:]
	}
	if !found {
		names := make([]string, 0, len(programs))
		for known := range programs {
			names = append(names, known)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "call it by the name, or with the first argument, "+strings.Join(names, ", "))
		os.Exit(2)
	}
	if err := program(); err != nil {
		fmt.Fprintln(os.Stderr, name+": "+err.Error())
		os.Exit(1)
	}
}

// Command controlplane is a whole Kubernetes control plane in one binary: etcd, the API server, the controller manager, the
// scheduler, and the clients kubectl and helm. Which one runs is decided by the name it is called by (a symbolic link) or by its first
// argument. It exists so that tests meet the real API, the real Job and Deployment controllers and real RBAC without containers.
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	helm "helm.sh/helm/v4/pkg/cmd"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/pkg/controller/job"
)

// jobBackoff names the environment variable that shortens the Job controller's first delay (10 s upstream): with 1s a Job with
// backoffLimit 3 starts its four pods within seconds. Unset, the controller behaves as released.
const jobBackoff = "GREYLAG_TEST_JOB_BACKOFF"

// programs holds constructors, not commands: building a command registers flags and metrics, which must happen for one program only.
var programs = map[string]func() int{
	"etcd":                    func() int { etcdmain.Main(os.Args); return 0 },
	"kube-apiserver":          func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": runControllers,
	"kube-scheduler":          func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
	"kubectl":                 runKubectl,
	"helm":                    runHelm,
}

func runControllers() int {
	if delay, err := time.ParseDuration(os.Getenv(jobBackoff)); err == nil && delay > 0 {
		job.DefaultJobPodFailureBackOff = delay
	}
	return cli.Run(controllers.NewControllerManagerCommand())
}

func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints as kubectl does and ends the process with kubectl's own exit code
	}
	return 0
}

func runHelm() int {
	command, err := helm.NewRootCmd(os.Stdout, os.Args[1:], helm.SetupLogging)
	if err != nil {
		slog.Error("helm could not start", slog.Any("error", err))
		return 1
	}
	return exitCode(command)
}

func exitCode(command *cobra.Command) int {
	err := command.Execute()
	var failed helm.CommandError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return failed.ExitCode
	default:
		return 1
	}
}

func main() {
	name := filepath.Base(os.Args[0])
	if _, known := programs[name]; !known && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	run, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for program := range programs {
			names = append(names, program)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: controlplane %s [arguments]\n", strings.Join(names, "|"))
		os.Exit(2)
	}
	os.Exit(run())
}

// A server of CustomResourceDefinitions without authentication, for tests on loopback. deploy/check/apiserver.sh builds it
// from the Kubernetes packages of Debian.
package main

import (
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	o := options.NewCustomResourceDefinitionsServerOptions(os.Stdout, os.Stderr)
	flags := pflag.NewFlagSet("apiserver", pflag.ExitOnError)
	o.AddFlags(flags)
	must(flags.Parse(os.Args[1:]))
	o.RecommendedOptions.Authentication = nil
	o.RecommendedOptions.Authorization = nil
	o.RecommendedOptions.Admission = nil
	o.RecommendedOptions.Features.EnablePriorityAndFairness = false // it needs the core API
	must(o.Complete())
	config, err := o.Config()
	must(err)
	server, err := config.Complete().New(genericapiserver.NewEmptyDelegate())
	must(err)
	must(server.GenericAPIServer.PrepareRun().RunWithContext(genericapiserver.SetupSignalContext()))
}

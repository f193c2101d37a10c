// CoreDNS with what a cluster's own zone needs, and no way to other servers: the node has none.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func init() {
	// The order in which plugins see a query.
	dnsserver.Directives = []string{"reload", "ready", "errors", "cache", "kubernetes"}
}

func main() {
	coremain.Run()
}

// Prints how pgx reads each connection string that it is given: a JSON document a line.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/jackc/pgconn"
)

type read struct {
	Hosts    []string          `json:"hosts"`
	Ports    []uint16          `json:"ports"`
	User     string            `json:"user"`
	Password string            `json:"password"`
	Database string            `json:"database"`
	Tls      []bool            `json:"tls"`
	Params   map[string]string `json:"params"`
	Seconds  float64           `json:"seconds"`
}

func main() {
	for _, text := range os.Args[1:] {
		config, err := pgconn.ParseConfig(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, text, err)
			os.Exit(1)
		}
		r := read{User: config.User, Password: config.Password, Database: config.Database,
			Params: config.RuntimeParams, Seconds: config.ConnectTimeout.Seconds()}
		add := func(host string, port uint16, tls bool) {
			r.Tls = append(r.Tls, tls)
			last := len(r.Hosts) - 1
			// With and without TLS are two attempts at one host.
			if last < 0 || r.Hosts[last] != host || r.Ports[last] != port {
				r.Hosts, r.Ports = append(r.Hosts, host), append(r.Ports, port)
			}
		}
		add(config.Host, config.Port, config.TLSConfig != nil)
		for _, next := range config.Fallbacks {
			add(next.Host, next.Port, next.TLSConfig != nil)
		}
		line, _ := json.Marshal(r)
		fmt.Println(string(line))
	}
}

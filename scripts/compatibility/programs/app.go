// The application on Go's net/http: `app PORT`; `app.py` says what its paths do.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

func main() {
	half := strings.Repeat("x", 1000)
	handler := func(w http.ResponseWriter, r *http.Request) {
		what := path.Base(r.URL.Path)
		if what != "early" && what != "refuse" {
			io.Copy(io.Discard, r.Body)
		}
		if what == "slow" {
			file, _ := os.OpenFile(os.Getenv("EXECUTED"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			fmt.Fprintln(file, r.Header.Get("Operation-Id"))
			file.Close()
			time.Sleep(200 * time.Millisecond)
		}
		w.Header().Set("Content-Type", "text/plain")
		if what == "cut-length" {
			w.Header().Set("Content-Length", "5000")
		}
		if what == "fields" {
			for n := 0; n < 150; n++ {
				w.Header().Set(fmt.Sprintf("X-Field-%d", n), "1")
			}
		}
		switch what {
		case "refuse":
			w.WriteHeader(413)
		case "empty":
			w.WriteHeader(205)
			return
		}
		if strings.HasPrefix(what, "cut") {
			io.WriteString(w, half)
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
			io.WriteString(w, half)
			panic("the application fails half-way")
		}
		io.WriteString(w, "done")
	}
	server := http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.HandlerFunc(handler), IdleTimeout: time.Second}
	server.ListenAndServe()
}

// Command gateway-bench is the two ends of the gateway's benchmark: a stub runtime that streams 16
// tokens at once, and a load generator that measures requests per second and time to first token.
// run.py starts it; it knows nothing of Stoker.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

const tokens = 16

var body = []byte(`{"model":"chat","stream":true,"max_tokens":16,"messages":[{"role":"user","content":"Write sixteen tokens about furnaces, please."}]}`)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "stub" {
		stub(os.Args[2])
	}
	if len(os.Args) == 5 && os.Args[1] == "load" {
		concurrency, _ := strconv.Atoi(os.Args[3])
		seconds, _ := strconv.ParseFloat(os.Args[4], 64)
		load(os.Args[2], concurrency, time.Duration(seconds*float64(time.Second)))
		return
	}
	fmt.Fprintln(os.Stderr, "usage: gateway-bench stub ADDRESS | load URL CONCURRENCY SECONDS")
	os.Exit(2)
}

func stub(address string) {
	http.HandleFunc("/ready", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"slots":1024}`)
	})
	http.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		flusher := w.(http.Flusher)
		for i := 0; i < tokens; i++ {
			fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"chat\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"t%d \"},\"finish_reason\":null}]}\n\n", i)
			flusher.Flush()
		}
		io.WriteString(w, "data: [DONE]\n\n")
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(address, nil))
	os.Exit(1)
}

type result struct {
	RequestsPerS float64 `json:"requests_per_s"`
	FirstP50Ms   float64 `json:"first_p50_ms"`
	FirstP99Ms   float64 `json:"first_p99_ms"`
	Requests     int     `json:"requests"`
	Errors       int     `json:"errors"`
}

func load(url string, concurrency int, duration time.Duration) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency, DisableCompression: true,
	}}
	var mutex sync.Mutex
	var all []float64
	var group sync.WaitGroup
	errors := 0
	began := time.Now()
	for i := 0; i < concurrency; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			var mine []float64
			failed := 0
			for time.Since(began) < duration {
				first, err := ask(client, url)
				if err != nil {
					failed++
					continue
				}
				mine = append(mine, first)
			}
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, mine...)
			errors += failed
		}()
	}
	group.Wait()
	seconds := time.Since(began).Seconds()
	sort.Float64s(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[int(q*float64(len(all)-1))]
	}
	json.NewEncoder(os.Stdout).Encode(result{float64(len(all)) / seconds, at(.5), at(.99), len(all), errors})
}

// ask sends one request and reads its stream to the end; the answer is the first token's time in ms.
func ask(client *http.Client, url string) (float64, error) {
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	events, first := 0, 0.0
	for {
		line, err := reader.ReadSlice('\n')
		if bytes.HasPrefix(line, []byte("data: ")) {
			if events == 0 {
				first = float64(time.Since(began).Microseconds()) / 1000
			}
			events++
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if response.StatusCode != 200 || events != tokens+1 {
		return 0, fmt.Errorf("status %d, %d events", response.StatusCode, events)
	}
	return first, nil
}

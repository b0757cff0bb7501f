// A runtime pod without a model: it speaks the runtime's contract with gateway and operator, answers at once or as
// slowly as it is told, and so measures what they cost alone. Settings come from STOKER_STUB_* or --stub-* arguments
// (`--stub-start-delay=2s` is STOKER_STUB_START_DELAY=2s); unknown arguments of the real runtime are ignored.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type settings struct {
	startDelay, tokenDelay time.Duration
	tokens, slots          int
	neverReady             bool
	failReason, model      string
}

type stub struct {
	settings
	mutex   sync.Mutex
	phase   string
	reason  string
	running int
	served  int
	phases  map[string]float64
	idle    *sync.Cond
	news    chan struct{}
}

func main() {
	started := seconds()
	s := &stub{settings: readSettings(), phase: "Starting", phases: map[string]float64{"container": started}}
	s.idle = sync.NewCond(&s.mutex)
	s.news = make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, true) })
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, false) })
	for _, port := range []string{option("port", "8000"), option("admin-port", "8001")} {
		go func() { log.Fatal(http.ListenAndServe(":"+port, mux)) }()
	}
	go s.announce()
	go s.load()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	s.drain()
}

// option finds `--name=value` or `--name value` among the arguments, then STOKER_NAME in the environment.
func option(name, fallback string) string {
	for i, arg := range os.Args {
		if value, found := strings.CutPrefix(arg, "--"+name+"="); found {
			return value
		}
		if arg == "--"+name && i+1 < len(os.Args) {
			return os.Args[i+1]
		}
	}
	if value := os.Getenv("STOKER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); value != "" {
		return value
	}
	return fallback
}

func readSettings() settings {
	duration := func(name string) time.Duration {
		value, err := time.ParseDuration(option("stub-"+name, "0s"))
		if err != nil {
			log.Fatalf("--stub-%s: %v", name, err)
		}
		return value
	}
	number := func(name, fallback string) int {
		value, err := strconv.Atoi(option(name, fallback))
		if err != nil {
			log.Fatalf("--%s: %v", name, err)
		}
		return value
	}
	return settings{
		startDelay: duration("start-delay"),
		tokenDelay: duration("token-delay"),
		tokens:     number("stub-tokens", "8"),
		slots:      number("stub-slots", option("max-num-seqs", "32")),
		neverReady: option("stub-never-ready", "false") == "true",
		failReason: option("stub-fail", ""),
		model:      option("served-name", "stub"),
	}
}

func seconds() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// enter changes the phase, notes when, and wakes the announcer.
func (s *stub) enter(phase, reason, ended string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.phase == "Draining" {
		return
	}
	s.phase, s.reason = phase, reason
	if ended != "" {
		s.phases[ended] = seconds()
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// load plays the phases of a cold start.
func (s *stub) load() {
	s.enter("Loading", "", "imports")
	time.Sleep(s.startDelay)
	if s.failReason != "" {
		s.enter("Failed", s.failReason, "")
		return
	}
	if s.neverReady {
		return
	}
	s.mutex.Lock()
	s.phases["weights"] = seconds()
	s.mutex.Unlock()
	s.enter("Ready", "", "firstToken")
}

// announce tells the gateway the newest phase, trying again until it is taken.
func (s *stub) announce() {
	url := os.Getenv("STOKER_ANNOUNCE_URL")
	for range s.news {
		for pause := 50 * time.Millisecond; url != ""; pause = min(2*pause, 2*time.Second) {
			if err := s.post(url); err == nil {
				break
			} else {
				log.Printf("announce: %v", err)
			}
			time.Sleep(pause)
		}
	}
}

func (s *stub) post(url string) error {
	s.mutex.Lock()
	body, err := json.Marshal(map[string]any{
		"namespace": os.Getenv("STOKER_NAMESPACE"), "deployment": os.Getenv("STOKER_DEPLOYMENT"),
		"pod": os.Getenv("STOKER_POD_NAME"), "address": os.Getenv("STOKER_POD_IP") + ":" + option("port", "8000"),
		"phase": s.phase, "slots": s.slots, "reason": s.reason, "message": "", "phases": s.phases,
	})
	s.mutex.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("STOKER_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return errors.New(response.Status)
	}
	return nil
}

func (s *stub) ready(w http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	phase, reason := s.phase, s.reason
	s.mutex.Unlock()
	if phase == "Ready" {
		reply(w, http.StatusOK, map[string]any{"slots": s.slots})
		return
	}
	reply(w, http.StatusServiceUnavailable, map[string]any{"phase": phase, "reason": reason, "message": ""})
}

func (s *stub) models(w http.ResponseWriter, _ *http.Request) {
	model := map[string]any{"id": s.model, "object": "model", "created": 0, "owned_by": "stoker"}
	reply(w, http.StatusOK, map[string]any{"object": "list", "data": []any{model}})
}

func (s *stub) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	fmt.Fprintf(w, "stoker_runtime_requests_running %d\nstoker_runtime_requests_total %d\n", s.running, s.served)
}

// take claims a slot, or says why there is none.
func (s *stub) take() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case s.phase == "Draining":
		return "draining"
	case s.phase != "Ready":
		return "loading"
	case s.running >= s.slots:
		return "full"
	}
	s.running++
	s.served++
	return ""
}

func (s *stub) give() {
	s.mutex.Lock()
	s.running--
	s.idle.Broadcast()
	s.mutex.Unlock()
}

// drain refuses new requests and leaves when the running ones are answered.
func (s *stub) drain() {
	s.enter("Draining", "", "")
	s.mutex.Lock()
	for s.running > 0 {
		s.idle.Wait()
	}
	s.mutex.Unlock()
	time.Sleep(100 * time.Millisecond) // for the last bytes and the announcement to leave
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// A runtime pod without a model: it speaks the runtime's contract with gateway and operator, answers at once or as
// slowly as it is told, and so measures what they cost alone. Settings come from STOKER_STUB_* or --stub-* arguments
// (`--stub-start-delay=2s` is STOKER_STUB_START_DELAY=2s); other arguments of the real runtime are passed over.
package main

import (
	"context"
	"encoding/json"
	"errors"
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

var (
	startDelay = duration("stub-start-delay") // from the start of the process to Ready
	tokenDelay = duration("stub-token-delay") // between two tokens
	neverReady = option("stub-never-ready", "false") == "true"
	failReason = option("stub-fail", "") // announce Failed with this reason instead of Ready
	tokens     = number("stub-tokens", "8")
	slots      = number("stub-slots", option("max-num-seqs", "32"))
)

// state is the pod's phase and its running requests; `changed` wakes whoever waits for either.
type state struct {
	sync.Mutex
	phase, reason string
	running       int
	phases        map[string]float64 // instants at which the phases of the start ended
	changed       *sync.Cond
}

func main() {
	s := &state{phase: "Starting", phases: map[string]float64{"container": seconds()}}
	s.changed = sync.NewCond(s)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, true) })
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, r *http.Request) { s.complete(w, r, false) })
	for _, port := range []string{option("port", "8000"), option("admin-port", "8001")} {
		go func() { log.Fatal(http.ListenAndServe(":"+port, mux)) }()
	}
	go s.announce(os.Getenv("STOKER_ANNOUNCE_URL"))
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

func duration(name string) time.Duration {
	value, err := time.ParseDuration(option(name, "0s"))
	if err != nil {
		log.Fatalf("--%s: %v", name, err)
	}
	return value
}

func number(name, fallback string) int {
	value, err := strconv.Atoi(option(name, fallback))
	if err != nil {
		log.Fatalf("--%s: %v", name, err)
	}
	return value
}

func seconds() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// enter changes the phase, unless the pod is leaving, and notes which parts of the start ended with it.
func (s *state) enter(phase, reason string, ended ...string) {
	s.Lock()
	defer s.Unlock()
	if s.phase == "Draining" {
		return
	}
	s.phase, s.reason = phase, reason
	for _, name := range ended {
		s.phases[name] = seconds()
	}
	s.changed.Broadcast()
}

// load plays a cold start.
func (s *state) load() {
	s.enter("Loading", "", "imports")
	time.Sleep(startDelay)
	switch {
	case failReason != "":
		s.enter("Failed", failReason)
	case !neverReady:
		s.enter("Ready", "", "weights", "firstToken")
	}
}

// announce tells the gateway each phase, or the newest when it is slow, trying again until it is taken.
func (s *state) announce(url string) {
	for told := ""; url != ""; {
		s.Lock()
		for s.phase == told {
			s.changed.Wait()
		}
		body, _ := json.Marshal(map[string]any{
			"namespace": os.Getenv("STOKER_NAMESPACE"), "deployment": os.Getenv("STOKER_DEPLOYMENT"),
			"pod": os.Getenv("STOKER_POD_NAME"), "address": os.Getenv("STOKER_POD_IP") + ":" + option("port", "8000"),
			"phase": s.phase, "slots": slots, "reason": s.reason, "message": "", "phases": s.phases,
		})
		told = s.phase
		s.Unlock()
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
			err := post(url, string(body))
			if err == nil {
				break
			}
			log.Printf("announce: %v", err)
			time.Sleep(pause)
		}
	}
}

func post(url, body string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
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

func (s *state) ready(w http.ResponseWriter, _ *http.Request) {
	s.Lock()
	defer s.Unlock()
	if s.phase == "Ready" {
		reply(w, http.StatusOK, map[string]any{"slots": slots})
		return
	}
	reply(w, http.StatusServiceUnavailable, map[string]any{"phase": s.phase, "reason": s.reason, "message": ""})
}

// take claims a slot, or says why there is none.
func (s *state) take() string {
	s.Lock()
	defer s.Unlock()
	switch {
	case s.phase == "Draining":
		return "draining"
	case s.phase != "Ready":
		return "loading"
	case s.running >= slots:
		return "full"
	}
	s.running++
	return ""
}

func (s *state) give() {
	s.Lock()
	defer s.Unlock()
	s.running--
	s.changed.Broadcast()
}

// drain refuses new requests and returns when the running ones are answered.
func (s *state) drain() {
	s.enter("Draining", "")
	s.Lock()
	for s.running > 0 {
		s.changed.Wait()
	}
	s.Unlock()
	time.Sleep(100 * time.Millisecond) // for the last bytes and the announcement to leave
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

type request struct {
	Model               string `json:"model"`
	Stream              bool   `json:"stream"`
	MaxTokens           int    `json:"max_tokens"`
	MaxCompletionTokens int    `json:"max_completion_tokens"`
	StreamOptions       struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// complete answers with the words "token0 token1 …", one every `tokenDelay`.
func (s *stub) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	if token := os.Getenv("STOKER_TOKEN"); token != "" && r.Header.Get("Authorization") != "Bearer "+token {
		reply(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{"message": "wrong token", "type": "invalid_request_error"}})
		return
	}
	if refusal := s.take(); refusal != "" {
		w.Header().Set("x-stoker-refused", refusal)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer s.give()
	var asked request
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		reply(w, http.StatusBadRequest, map[string]any{"error": map[string]any{"message": err.Error(), "type": "invalid_request_error"}})
		return
	}
	count := max(asked.MaxTokens, asked.MaxCompletionTokens)
	if count == 0 {
		count = s.tokens
	}
	var words strings.Builder
	if asked.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	for i := range count {
		if i > 0 && !pause(r, s.tokenDelay) {
			return
		}
		word := fmt.Sprintf("token%d ", i)
		words.WriteString(word)
		if asked.Stream {
			event(w, chunk(asked.Model, chat, word, nil))
		}
	}
	usage := map[string]any{"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
	if !asked.Stream {
		reply(w, http.StatusOK, whole(asked.Model, chat, words.String(), usage))
		return
	}
	event(w, chunk(asked.Model, chat, "", "stop"))
	if asked.StreamOptions.IncludeUsage {
		last := chunk(asked.Model, chat, "", nil)
		last["choices"], last["usage"] = []any{}, usage
		event(w, last)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// pause waits between tokens; false when the client has left.
func pause(r *http.Request, delay time.Duration) bool {
	select {
	case <-r.Context().Done():
		return false
	case <-time.After(delay):
		return true
	}
}

func event(w http.ResponseWriter, body map[string]any) {
	text, _ := json.Marshal(body)
	fmt.Fprintf(w, "data: %s\n\n", text)
	_ = http.NewResponseController(w).Flush()
}

func chunk(model string, chat bool, word string, finish any) map[string]any {
	choice := map[string]any{"index": 0, "finish_reason": finish}
	object := "text_completion"
	if chat {
		object = "chat.completion.chunk"
		choice["delta"] = map[string]any{"role": "assistant", "content": word}
	} else {
		choice["text"] = word
	}
	return envelope(model, object, choice)
}

func whole(model string, chat bool, words string, usage map[string]any) map[string]any {
	choice := map[string]any{"index": 0, "finish_reason": "stop"}
	object := "text_completion"
	if chat {
		object = "chat.completion"
		choice["message"] = map[string]any{"role": "assistant", "content": words}
	} else {
		choice["text"] = words
	}
	body := envelope(model, object, choice)
	body["usage"] = usage
	return body
}

func envelope(model, object string, choice map[string]any) map[string]any {
	id := fmt.Sprintf("stub-%d", time.Now().UnixNano())
	return map[string]any{"id": id, "object": object, "created": time.Now().Unix(), "model": model, "choices": []any{choice}}
}

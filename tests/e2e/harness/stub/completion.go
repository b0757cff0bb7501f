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
}

// complete answers with the words "token0 token1 …".
func (s *state) complete(w http.ResponseWriter, r *http.Request, chat bool) {
	if token := os.Getenv("STOKER_TOKEN"); token != "" && r.Header.Get("Authorization") != "Bearer "+token {
		reply(w, http.StatusUnauthorized, failure("wrong token"))
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
		reply(w, http.StatusBadRequest, failure(err.Error()))
		return
	}
	count := max(asked.MaxTokens, asked.MaxCompletionTokens)
	if count == 0 {
		count = tokens
	}
	var words strings.Builder
	for i := range count {
		if i > 0 {
			select {
			case <-r.Context().Done(): // the client has left
				return
			case <-time.After(tokenDelay):
			}
		}
		word := fmt.Sprintf("token%d ", i)
		words.WriteString(word)
		if asked.Stream {
			event(w, answer(asked, chat, word, nil))
		}
	}
	if asked.Stream {
		event(w, answer(asked, chat, "", "stop"))
		fmt.Fprint(w, "data: [DONE]\n\n")
		return
	}
	body := answer(asked, chat, words.String(), "stop")
	body["usage"] = map[string]any{"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
	reply(w, http.StatusOK, body)
}

func failure(message string) map[string]any {
	return map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error"}}
}

// answer is a whole completion, or one piece of a streamed one.
func answer(asked request, chat bool, text string, finish any) map[string]any {
	choice := map[string]any{"index": 0, "finish_reason": finish}
	object := "text_completion"
	switch message := map[string]any{"role": "assistant", "content": text}; {
	case chat && asked.Stream:
		object, choice["delta"] = "chat.completion.chunk", message
	case chat:
		object, choice["message"] = "chat.completion", message
	default:
		choice["text"] = text
	}
	id := fmt.Sprintf("stub-%d", time.Now().UnixNano())
	return map[string]any{"id": id, "object": object, "created": time.Now().Unix(), "model": asked.Model, "choices": []any{choice}}
}

func event(w http.ResponseWriter, body map[string]any) {
	text, _ := json.Marshal(body)
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: %s\n\n", text)
	_ = http.NewResponseController(w).Flush()
}

func reply(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

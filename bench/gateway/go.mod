module stoker.dev/bench/gateway

go 1.24

module stoker.dev/harness/node-init

go 1.26

module stoker.dev/harness/stub

go 1.26

// What Go programs do: each part prints its name when it has worked.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func check(condition bool) {
	if !condition {
		panic("failed")
	}
}

func goroutines() {
	var wait sync.WaitGroup
	numbers := make(chan int, 1000)
	for i := 0; i < 1000; i++ {
		wait.Add(1)
		go func() { defer wait.Done(); numbers <- 1 }()
	}
	wait.Wait()
	check(len(numbers) == 1000)
	runtime.GOMAXPROCS(4)
	go func() {
		for {
		}
	}()
	time.Sleep(50 * time.Millisecond) // the loop is preempted by a signal
	var kept [][]byte
	for i := 0; i < 2000; i++ {
		kept = append(kept, make([]byte, 10000))
	}
	runtime.GC()
	check(len(kept) == 2000)
}

func processes() {
	out, err := exec.Command("echo", "3").Output()
	check(err == nil && string(out) == "3\n")
	deadline, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	check(exec.CommandContext(deadline, "sleep", "60").Run() != nil)
}

func signals() {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	check(<-got == syscall.SIGUSR1)
}

func sockets() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "x")
	}))
	answer, err := http.Get("http://" + listener.Addr().String())
	check(err == nil)
	body, err := io.ReadAll(answer.Body)
	check(err == nil && string(body) == "x")
}

func files() {
	check(os.WriteFile("f", []byte("x"), 0o644) == nil)
	file, err := os.Open("f")
	check(err == nil && syscall.Flock(int(file.Fd()), syscall.LOCK_EX) == nil)
	check(os.MkdirAll("a/b/c", 0o755) == nil && os.RemoveAll("a") == nil)
}

func main() {
	goroutines()
	fmt.Println("goroutines")
	processes()
	fmt.Println("processes")
	signals()
	fmt.Println("signals")
	sockets()
	fmt.Println("sockets")
	files()
	fmt.Println("files")
}

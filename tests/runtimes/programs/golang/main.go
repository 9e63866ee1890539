package main

import "fmt"

func main() {
	var word string
	fmt.Println(total(100))
	fmt.Scan(&word)
	fmt.Println(word)
}

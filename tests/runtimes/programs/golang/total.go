package main

func total(last int) (sum int) {
	for i := 1; i <= last; i++ {
		sum += i
	}
	return
}

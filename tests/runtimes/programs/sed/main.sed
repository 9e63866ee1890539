1{
  r line.txt
  h
  s/.*/5050/
  p
  x
  s/^/read /
}

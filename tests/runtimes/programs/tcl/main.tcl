source total.tcl
puts [total 100]
puts [gets stdin]

The digits and a line feed; then all of the input
+++++[>++++++++++<-]>+++.-----.+++++.-----.
>++++++++++.
>,[.,]

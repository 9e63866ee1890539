        .globl main
        .data
format: .asciz "%d\n"
        .text
main:   pushq %rbx
        movl $100, %edi
        call total
        movl $format, %edi
        movl %eax, %esi
        xorl %eax, %eax
        call printf
        xorl %edi, %edi
        leaq line, %rsi
        movl $80, %edx
        call read
        movl $line, %edi
        xorl %eax, %eax
        call printf
        xorl %edi, %edi
        call exit
        .bss
line:   .space 81
        .section .note.GNU-stack,"",@progbits

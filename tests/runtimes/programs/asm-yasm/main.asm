        global  main
        extern  total, printf, gets_line, puts
        section .data
format: db "%d", 10, 0
        section .text
main:   push    rbx
        mov     edi, 100
        call    total
        mov     rdi, format
        mov     esi, eax
        xor     eax, eax
        call    printf
        call    gets_line
        mov     rdi, rax
        call    puts
        xor     eax, eax
        pop     rbx
        ret
        section .note.GNU-stack noalloc noexec nowrite progbits

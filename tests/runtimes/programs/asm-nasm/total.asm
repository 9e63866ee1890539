        global  total, gets_line
        extern  scanf
        section .bss
line:   resb    80
        section .data
word_:  db      "%79s", 0
        section .text
total:  xor     eax, eax
.next:  add     eax, edi
        dec     edi
        jnz     .next
        ret
gets_line:
        push    rbx
        mov     rdi, word_
        mov     rsi, line
        xor     eax, eax
        call    scanf
        mov     rax, line
        pop     rbx
        ret
        section .note.GNU-stack noalloc noexec nowrite progbits

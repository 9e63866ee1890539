        .globl total
        .text
total:  xorl %eax, %eax
1:      addl %edi, %eax
        decl %edi
        jnz 1b
        ret
        .section .note.GNU-stack,"",@progbits

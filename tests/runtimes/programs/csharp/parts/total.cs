using System.Collections.Generic;

static class Total {
    public static IEnumerable<int> Numbers(int last) {
        for (int i = 1; i <= last; i++) yield return i;
    }
}

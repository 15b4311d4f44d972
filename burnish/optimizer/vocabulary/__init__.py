"""Which tokens some languages need, and a tokenizer of only those.

    corpus    sentences by language, from the files of a folder
    choice    the tokens to keep: those of the sentences, and what nothing may be without
    kinds     how a kind of tokenizer splits words, and what it needs for that: `wordpiece`,
              `unigram`, `bpe`
    rewriting tokenizer.json with the kept tokens, numbered anew
    settings  the ids in configurations beside it
    coverage  what is lost on sentences that were held out

Ids are numbered anew in their old order, so that comparisons of ids stay true, and what is the
largest id of a text stays that.
"""

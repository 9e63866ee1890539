"""Virtual folders in the api, without HTTP: registry, attachments, tokens, uploads by tus."""

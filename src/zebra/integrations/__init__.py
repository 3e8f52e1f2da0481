"""Adapters of zebra's models for other libraries, one file per library.

None is imported with zebra: `from zebra.integrations.langchain import ZebraEmbeddings`. An adapter whose library is
missing raises MissingExtra, which contains the pip command.
"""

# %% [markdown]
# # Retrieval and an agent with a routed model
#
# Runs offline: the models are a local OpenAI-compatible process, which echoes what it is asked, and the router is the
# one that ships with the package. Cells are marked with `# %%` (VS Code, Jupytext); `python -m
# examples.langchain_rag_and_agent` runs them all.

# %% A local process in place of two hosted models
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_routellm import RouteLLMChat, RouteLLMMiddleware, route_on
from langgraph.checkpoint.memory import InMemorySaver

from routellm_core.testing.local_models import LocalModelServer

server = LocalModelServer().__enter__()  # a notebook has no end to close it at; the last cell does
endpoint = {"base_url": server.base_url, "api_key": "not-needed"}
strong, weak = ChatOpenAI(model="local-strong", **endpoint), ChatOpenAI(model="local-weak", **endpoint)

EASY = "What is the capital of Italy?"
HARD = "Prove that there are infinitely many primes congruent to 3 modulo 4."

# %% Two models as one
model = RouteLLMChat(router="mf", threshold=0.116, strong=strong, weak=weak)

for question in (EASY, HARD):
    routing = model.invoke(question).response_metadata["routing"]
    print(f"{routing['tier']:>6}: {question}  ({routing['reason']})")

# %% Retrieval: the documents are stuffed into the user's message, and the question decides
store = InMemoryVectorStore(OpenAIEmbeddings(check_embedding_ctx_length=False, **endpoint))
store.add_documents(
    [
        Document("Rome is the capital of Italy."),
        Document("Dirichlet proved that every arithmetic progression of coprime terms holds infinitely many primes."),
    ]
)
retriever = store.as_retriever(search_kwargs={"k": 2})
prompt = ChatPromptTemplate.from_messages(
    [("system", "Answer from the context."), ("human", "Context: {context}\n\nQuestion: {question}")]
)
joined = retriever | RunnableLambda(lambda documents: "\n".join(document.page_content for document in documents))
inputs = {"context": joined, "question": RunnablePassthrough()}

by_documents = inputs | prompt | model
by_question = inputs | route_on(prompt, "question") | model
for name, chain in (("whole message", by_documents), ("question alone", by_question)):
    routing = chain.invoke(EASY).response_metadata["routing"]
    print(f"routed on the {name}: {routing['tier']} (score {routing['score']:.3f})")

for piece in (by_question | StrOutputParser()).stream(EASY):
    print(piece, end="", flush=True)
print()


# %% An agent with the routed model: one model through its tool loop
@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


agent = create_agent(model, tools=[get_weather], checkpointer=InMemorySaver())
thread = {"configurable": {"thread_id": "1"}}
state = agent.invoke({"messages": [("human", "What is the weather in 'Rome'?")]}, thread)
for message in state["messages"]:
    said = message.text or [call["name"] for call in message.tool_calls]
    print(f"{message.type:>6} {message.response_metadata.get('routing', {}).get('model', ''):<13} {said}")

# %% The same with the agent holding both models: the middleware decides once for each human turn
routing_middleware = RouteLLMMiddleware("mf", 0.116, strong=strong, weak=weak)
agent = create_agent(strong, tools=[get_weather], middleware=[routing_middleware])
for question in (EASY, HARD):
    answer = agent.invoke({"messages": [("human", question)]})["messages"][-1]
    print(f"{answer.response_metadata['routing']['tier']:>6}: {answer.text}")

# %% Done
server.__exit__()
